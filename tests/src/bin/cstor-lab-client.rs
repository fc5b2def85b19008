//! `cstor-lab-client WHAT DIR HELPER [ARGUMENT...]`: the other end of one helper's conversation, for tests that must be in
//! its user namespace or watch it closely. DIR/root is the root it hands over. It says what it sees as lines and judges
//! nothing.
//!
//! - `ready`: what the helper says of itself, how long that took, and what it occupies before and after many requests.
//! - `crowd`: how the helper takes a message that holds as many names as fit.
//! - `orphan`: what becomes of the helper when its launcher is killed and nothing else happens.
//! - `thread`: what becomes of it when the thread of this process that started it ends.
//! - `take-over`: reads names of calls from DIR/calls; for each one starts a helper, with DIR/takeover.so loaded into it,
//!   and says `NAME: ` and `ok`, an error number, or the signal that ended it.
//! - `unshare`: `ready`, after maps were written for a helper in a namespace of its own; `unshare-early` says `Hello`
//!   before that.

#![forbid(unsafe_code)]

use cstor_proto::{
    Channel, LayerDir, LayerHandle, LayerId, MAGIC, MAX_FRAME, Ready, RelPath, Reply, Request, StoreIndex, VERSION,
    VersionRange,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

type Anything<T> = Result<T, Box<dyn Error>>;

/// The layer that `root` holds.
const LAYER: LayerId = LayerId::from_bytes([0xab; 32]);
/// Requests between the two looks at what the helper occupies.
const MANY: usize = 500;

fn main() -> Anything<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [what, dir, helper @ ..] = &arguments[..] else { return Err("usage".into()) };
    let test = Test { dir: dir.into(), helper: helper.to_vec() };
    match what.as_str() {
        "ready" => test.ready(false),
        "crowd" => test.crowd(),
        "orphan" => test.orphan(),
        "thread" => test.thread(),
        "unshare" => test.ready(true),
        "unshare-early" => test.early(),
        "take-over" => test.take_over(),
        _ => Err("usage".into()),
    }
}

struct Test {
    dir: PathBuf,
    helper: Vec<String>,
}

impl Test {
    fn start(&self, more: impl FnOnce(&mut Command) -> &mut Command) -> Anything<(Channel, Child)> {
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new(&self.helper[0]);
        command.args(&self.helper[1..]).stdin(theirs).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok((channel, more(&mut command).spawn()?))
    }

    fn root(&self) -> Anything<OwnedFd> {
        Ok(File::open(self.dir.join("root"))?.into())
    }

    fn hello(&self, channel: &mut Channel) -> Anything<Ready> {
        let versions = VersionRange { min: VERSION, max: VERSION };
        channel.send(&Request::Hello { magic: MAGIC, versions, roots: 1 }, &[self.root()?.as_fd()])?;
        match channel.receive(0)? {
            (Reply::Ready(ready), _) => Ok(ready),
            other => Err(format!("not Ready: {other:?}").into()),
        }
    }

    fn ready(&self, own_namespace: bool) -> Anything<()> {
        let (mut channel, child) = self.start(|command| command)?;
        if own_namespace {
            give_maps(child.id())?;
        }
        let began = Instant::now();
        let ready = self.hello(&mut channel)?;
        println!("ready after {} us", began.elapsed().as_micros());
        println!("{:?}", ready.confinement);
        let open = Request::OpenLayer { root: StoreIndex(0), id: LAYER, dir: LayerDir::Diff };
        channel.send(&open, &[])?;
        println!("layer {:?}", channel.receive::<Reply>(0)?.0);
        let before = occupied(child.id())?;
        let names: Vec<_> = ["f", "dir", "missing", "f", "link"].map(|name| RelPath::clean(name.as_bytes())).into();
        let names = names.into_iter().collect::<Result<Vec<_>, _>>()?;
        // As long as a message may be, so that the allocator has to ask for memory and give it back.
        let long: Vec<_> =
            (0..60).map(|n| RelPath::clean(format!("{n}{}", "/missing".repeat(110)).as_bytes())).collect();
        let long = long.into_iter().collect::<Result<Vec<_>, _>>()?;
        for round in 0..MANY {
            channel.send(&Request::Open { layer: LayerHandle(0), names: long.clone() }, &[])?;
            channel.receive::<Reply>(0)?;
            channel.send(&Request::Open { layer: LayerHandle(0), names: names.clone() }, &[])?;
            let (reply, fds) = channel.receive::<Reply>(names.len())?;
            let mut text = String::new();
            for fd in fds {
                File::from(fd).read_to_string(&mut text)?;
            }
            assert_eq!(text, "contentcontent", "{reply:?}");
            if round == 0 {
                println!("files {reply:?}");
            }
        }
        // The helper closes what it sent after it sent it; by the time of another answer it has.
        channel.send(&Request::Open { layer: LayerHandle(0), names: vec![RelPath::clean(b"missing")?] }, &[])?;
        channel.receive::<Reply>(0)?;
        println!("before {before}");
        println!("after {}", occupied(child.id())?);
        channel.send(&Request::Bye, &[])?;
        println!("end {}", ended(child)?.0);
        Ok(())
    }

    fn crowd(&self) -> Anything<()> {
        let (mut channel, child) = self.start(|command| command)?;
        self.hello(&mut channel)?;
        let name = RelPath::clean(b"n")?;
        channel.send(&Request::Open { layer: LayerHandle(0), names: vec![name; MAX_FRAME / 2 - 8] }, &[])?;
        println!("{:?}", channel.receive::<Reply>(0)?.0);
        println!("end {}", ended(child)?.0);
        Ok(())
    }

    fn orphan(&self) -> Anything<()> {
        let shell = ["sh", "-c", "\"$@\"; exit", "sh"].map(str::to_owned);
        let launcher = Test { dir: self.dir.clone(), helper: [&shell, &self.helper[..]].concat() };
        let (mut channel, mut child) = launcher.start(|command| command)?;
        launcher.hello(&mut channel)?;
        child.kill()?;
        say_end(&mut channel, Duration::from_secs(5))
    }

    fn thread(&self) -> Anything<()> {
        let (mut channel, _child) = std::thread::scope(|scope| {
            let started = scope.spawn(|| {
                let (mut channel, child) = self.start(|command| command).ok()?;
                self.hello(&mut channel).ok()?;
                Some((channel, child))
            });
            started.join().ok().flatten().ok_or("not started")
        })?;
        say_end(&mut channel, Duration::from_millis(500))
    }

    fn early(&self) -> Anything<()> {
        let (mut channel, child) = self.start(|command| command)?;
        println!("{}", self.hello(&mut channel).err().ok_or("a Ready without maps")?);
        println!("end {}", ended(child)?.0);
        Ok(())
    }

    fn take_over(&self) -> Anything<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let name = format!("cstor-lab-{}", std::process::id());
        let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        for call in fs::read_to_string(self.dir.join("calls"))?.lines() {
            let (mut channel, child) = self.start(|command| {
                command
                    .env("LD_PRELOAD", self.dir.join("takeover.so"))
                    .env("TAKEOVER", call)
                    .env("TAKEOVER_ROOT", fs::metadata(self.dir.join("root")).map_or(0, |root| root.ino()).to_string())
                    .env("TAKEOVER_OTHER", self.dir.join("other"))
                    .env("TAKEOVER_PEER", std::process::id().to_string())
                    .env("TAKEOVER_PORT", listener.local_addr().map_or(0, |address| address.port()).to_string())
                    .env("TAKEOVER_SOCKET", &name)
            })?;
            self.hello(&mut channel)?;
            channel.send(&Request::OpenLayer { root: StoreIndex(0), id: LAYER, dir: LayerDir::Diff }, &[])?;
            let (status, said) = ended(child)?;
            let outcome = match (status.signal(), said.trim()) {
                (Some(31), "") => "SIGSYS".to_owned(),
                (None, "0") => "ok".to_owned(),
                (None, number) if number.parse::<u16>().is_ok() => format!("errno {number}"),
                (_, said) => format!("{status} {said}").trim_end().to_owned(),
            };
            println!("{call}: {outcome}");
        }
        Ok(())
    }
}

/// Whether the other end goes away within that time.
fn say_end(channel: &mut Channel, within: Duration) -> Anything<()> {
    let wait = Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: within.subsec_nanos().into() };
    match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&wait))? {
        0 => println!("still there"),
        _ => println!("{}", channel.receive::<Reply>(0).err().ok_or("an answer to nothing")?),
    }
    Ok(())
}

fn ended(child: Child) -> Anything<(ExitStatus, String)> {
    let output = child.wait_with_output()?;
    Ok((output.status, String::from_utf8(output.stderr)?))
}

/// Resident memory, the owner that /proc shows, open descriptors. Of a helper that is not dumpable only root of the machine sees the latter.
fn occupied(pid: u32) -> Anything<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let lines =
        status.lines().filter(|line| ["VmRSS", "RssAnon", "Uid", "Groups"].iter().any(|key| line.starts_with(key)));
    let facts: Vec<_> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let owner = fs::metadata(format!("/proc/{pid}/environ"))?.uid();
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).map_or("unseen".to_owned(), |fds| fds.count().to_string());
    Ok(format!("{} owner {owner} fds {fds}", facts.join(" ")))
}

/// Does what the launcher `newuidmap` of cstor does: waits for the namespace, then maps this user to 0 and the
/// subordinate ids behind it.
fn give_maps(pid: u32) -> Anything<()> {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/user"));
    let began = Instant::now();
    while namespace("self")? == namespace(&pid.to_string())? {
        if began.elapsed() > Duration::from_secs(10) {
            return Err("no namespace of its own".into());
        }
        sleep(Duration::from_millis(1));
    }
    let me = fs::metadata("/proc/self")?;
    let name = std::env::var("USER")?;
    for (program, ranges, own) in [("newuidmap", "/etc/subuid", me.uid()), ("newgidmap", "/etc/subgid", me.gid())] {
        let first = first_range(Path::new(ranges), &name)?;
        let status = Command::new(program)
            .args([&pid.to_string(), "0", &own.to_string(), "1", "1", &first.0, &first.1])
            .status()?;
        if !status.success() {
            return Err(format!("{program}: {status}").into());
        }
    }
    Ok(())
}

fn first_range(file: &Path, name: &str) -> Anything<(String, String)> {
    let ranges = fs::read_to_string(file)?;
    let mut fields = ranges.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.find(|fields| fields.len() == 3 && fields[0] == name).ok_or("no range")?;
    Ok((found[1].to_owned(), found[2].to_owned()))
}
