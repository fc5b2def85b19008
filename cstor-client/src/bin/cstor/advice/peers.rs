//! What to do about other programs: servers and clients of JSON-RPC, and image proxies.

use cstor_client::ErrorKind;
use cstor_client::error::{ChannelError, ProxyV1Error, RpcError, WireError};

use super::output;

pub(super) fn rpc(error: &RpcError) -> Option<&'static str> {
    Some(match error {
        RpcError::Connect { .. } => "start `cstor serve --socket` there",
        RpcError::Wire(error) => wire(error),
        RpcError::OutOfStep => "connect anew",
        RpcError::Stream(error) => return output::split_fd(error),
        RpcError::Extract(error) => return output::extract(error),
        RpcError::Size { .. } | RpcError::Count { .. } | RpcError::Digest { .. } => {
            "have the server's store checked (cstor verify)"
        }
        RpcError::Unexpected { .. } | RpcError::Form { .. } | RpcError::Descriptors { .. } => {
            "report it to the authors of the server"
        }
        _ => return None,
    })
}

fn wire(error: &WireError) -> &'static str {
    match error {
        WireError::DescriptorsLost | WireError::TooMany { .. } | WireError::InFlight { .. } => {
            "raise the limit (ulimit -n)"
        }
        WireError::Interrupted(_) => "nothing was left behind",
        WireError::Socket(_) | WireError::Unwritable(_) => "see the cause above",
        _ => "see what the peer says, or report it there",
    }
}

pub(super) fn proxy_v1(error: &ProxyV1Error) -> Option<&'static str> {
    use ProxyV1Error as E;
    Some(match error {
        E::NoProgram { .. } => "install it, or name it by its path",
        E::Spawn { .. } => "name a program that may be executed",
        E::Version { .. } => "use another release of skopeo",
        E::Silent { .. } => "see whether its source answers at all (skopeo inspect)",
        E::Refused { .. } => "check the reference; a rootless store takes `podman unshare` before the command",
        E::Ended { .. } => "run it by hand to see why; it should serve an image proxy on standard input",
        E::BlobSize { found, wanted, .. } if found > wanted => {
            "get the image again; if it lies in a store, extract it without --via, or use a newer skopeo"
        }
        E::Channel { source: ChannelError::DescriptorsLost, .. } => "raise the descriptor limit (ulimit -n)",
        _ if error.kind() == ErrorKind::Corrupt => "get the image again, or build it again",
        _ if error.kind() == ErrorKind::Failure => "use skopeo experimental-image-proxy, or report this",
        _ => return None,
    })
}
