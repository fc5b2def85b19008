//! A `SOCK_SEQPACKET` socket that carries messages and descriptors.
//!
//! One datagram is one message with its descriptors, so there is no framing code. It does not wait: who
//! needs a time limit polls the descriptor first.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketFlags, SocketType, recvmsg,
    socketpair, sockopt,
};
use sendfd::SendWithFd;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::MAX_FRAME;
use crate::{ChannelError, decode, encode};

/// One end of a conversation.
#[derive(Debug)]
pub struct Channel {
    /// sendfd sends on this type only; `sendmsg` does not care that the socket is a SEQPACKET one.
    socket: UnixDatagram,
    buffer: Vec<u8>,
}

impl Channel {
    /// A connected pair, both close-on-exec.
    pub fn pair() -> Result<(Channel, OwnedFd), ChannelError> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(ChannelError::Io)?;
        Ok((Channel::new(ours), theirs))
    }

    /// Takes over a socket that somebody else made.
    pub fn from_fd(fd: OwnedFd) -> Result<Channel, ChannelError> {
        let domain = sockopt::socket_domain(&fd).map_err(|_| ChannelError::NotAChannel)?;
        let kind = sockopt::socket_type(&fd).map_err(|_| ChannelError::NotAChannel)?;
        if domain != AddressFamily::UNIX || kind != SocketType::SEQPACKET {
            return Err(ChannelError::NotAChannel);
        }
        Ok(Channel::new(fd))
    }

    fn new(fd: OwnedFd) -> Channel {
        Channel { socket: UnixDatagram::from(fd), buffer: vec![0; MAX_FRAME] }
    }

    /// Sends one message with its descriptors; blocks while the peer's buffer is full.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        self.send_frame(&encode(message)?, fds)
    }

    /// The same for bytes that somebody else encoded.
    pub fn send_frame(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let sent = loop {
            match self.socket.send_with_fd(frame, &raw) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match sent {
            Ok(length) if length == frame.len() => Ok(()),
            Ok(_) => Err(ChannelError::Short),
            Err(error) => Err(match Errno::from_io_error(&error) {
                Some(Errno::PIPE | Errno::CONNRESET) => ChannelError::Closed,
                errno => ChannelError::Io(errno.unwrap_or(Errno::IO)),
            }),
        }
    }

    /// Receives one message and the descriptors with it, which are close-on-exec. `max_fds` is how many
    /// may come: more are dropped by the kernel and reported as [`ChannelError::DescriptorsLost`].
    pub fn receive<T: DeserializeOwned>(&mut self, max_fds: usize) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        let (frame, fds) = self.receive_frame(max_fds)?;
        Ok((decode(frame)?, fds))
    }

    /// The same without decoding: at least one byte.
    pub fn receive_frame(&mut self, max_fds: usize) -> Result<(&[u8], Vec<OwnedFd>), ChannelError> {
        let mut space = Vec::new();
        if max_fds > 0 {
            space.resize(rustix::cmsg_space!(ScmRights(max_fds)), MaybeUninit::uninit());
        }
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut self.buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })
        .map_err(|errno| match errno {
            Errno::CONNRESET => ChannelError::Closed,
            other => ChannelError::Io(other),
        })?;
        // Taken before the checks, so that every descriptor is owned and closed whatever follows.
        let mut fds = Vec::with_capacity(max_fds);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::Truncated);
        }
        // Aligning the buffer can leave room for one descriptor more than was asked for.
        if received.flags.contains(ReturnFlags::CTRUNC) || fds.len() > max_fds {
            return Err(ChannelError::DescriptorsLost);
        }
        match self.buffer.get(..received.bytes) {
            // No message is empty: nothing means end of file.
            None | Some([]) => Err(ChannelError::Closed),
            Some(frame) => Ok((frame, fds)),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reply, Request};
    use rustix::io::{FdFlags, fcntl_getfd};

    #[test]
    fn descriptors_arrive_close_on_exec_and_are_counted() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut theirs = Channel::from_fd(theirs).unwrap();
        let file = std::io::stdin();
        let three = [file.as_fd(), file.as_fd(), file.as_fd()];
        ours.send(&Reply::Closed, &three).unwrap();
        let (reply, fds) = theirs.receive::<Reply>(3).unwrap();
        assert_eq!((reply, fds.len()), (Reply::Closed, 3));
        for fd in &fds {
            assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
        }
        for room in [0, 1] {
            ours.send(&Reply::Closed, &three).unwrap();
            let lost = theirs.receive::<Reply>(room);
            assert!(matches!(lost, Err(ChannelError::DescriptorsLost)), "{room}: {lost:?}");
        }
        // The loss did not put the conversation out of step.
        ours.send(&Request::Bye, &[]).unwrap();
        assert_eq!(theirs.receive::<Request>(0).unwrap().0, Request::Bye);
        drop(ours);
        assert!(matches!(theirs.receive::<Reply>(0), Err(ChannelError::Closed)));
        assert!(matches!(theirs.send(&Request::Bye, &[]), Err(ChannelError::Closed)));
    }

    #[test]
    fn other_sockets_are_refused() {
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(Channel::from_fd(stream.into()), Err(ChannelError::NotAChannel)));
        let file = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        assert!(matches!(Channel::from_fd(file), Err(ChannelError::NotAChannel)));
    }

    #[test]
    fn long_frames_are_errors() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut theirs = Channel::from_fd(theirs).unwrap();
        ours.socket.send(&vec![0; MAX_FRAME + 1]).unwrap();
        assert!(matches!(theirs.receive::<Request>(0), Err(ChannelError::Truncated)));
        ours.socket.send(&[]).unwrap();
        assert!(matches!(theirs.receive::<Request>(0), Err(ChannelError::Closed)));
        let longest = vec![7; MAX_FRAME];
        ours.send_frame(&longest, &[]).unwrap();
        let (frame, fds) = theirs.receive_frame(0).unwrap();
        assert_eq!((frame, fds.len()), (&longest[..], 0));
    }
}
