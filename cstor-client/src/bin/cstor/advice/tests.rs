use cstor_client::error::{
    ContentProblem, CopyError, ExtractError, ImageError, Interrupted, LayerPart, MergeError, MergeProblem, Obstacle,
    OverMemoryLimit, ProxyV1Error, ReadError, ReadProblem, Refusal, RpcError, SourceError, SplitFdError, StoreError,
    WireError, destination_kind,
};
use cstor_client::{Digest, LayerId, doctor::Problem};

use super::*;

const IMAGE_IS_DAMAGED: &str = "podman system check";

fn layer() -> LayerId {
    "a".repeat(64).parse().unwrap()
}

fn full() -> io::Error {
    Errno::NOSPC.into()
}

fn contents(refusal: Refusal) -> Error {
    let problem = ReadProblem::Content(ContentProblem::Refused(refusal));
    Error::Read(ReadError { layer: layer(), name: Some(b"etc/passwd".to_vec()), problem })
}

fn merge(problem: MergeProblem) -> Error {
    Error::Merge(MergeError { layer: layer(), name: b"a".to_vec(), problem })
}

fn no_helper() -> Error {
    Error::Source(SourceError::NoHelper { beside: "/usr/bin/program".into() })
}

fn occupied() -> ExtractError {
    ExtractError::Occupied { path: "out".into(), what: Obstacle::NotEmpty }
}

fn blob(found: u64) -> Error {
    Error::ProxyV1(ProxyV1Error::BlobSize { blob: Digest::of(b""), found, wanted: 2 })
}

/// Whoever follows the advice must get further, so room is asked for where room is missing, and nowhere else.
#[test]
fn advice_is_true_for_the_error_that_it_is_given_for() {
    for number in 1..=133 {
        let error = io::Error::from_raw_os_error(number);
        let advice = destination(&error);
        let about_room = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error).contains(&number);
        assert_eq!(advice.contains("make room"), about_room, "{error}: {advice}");
        assert_eq!(advice.contains("ulimit -n"), destination_kind(&error) == ErrorKind::Limit && number != 12);
    }
    assert_eq!(destination(&io::Error::other("not the kernel")), "choose another destination");
}

#[test]
fn every_store_that_cannot_be_read_has_its_advice() {
    let json = serde_json::from_str::<u8>("[").unwrap_err();
    let id = "../../etc".parse::<LayerId>().unwrap_err();
    let table: [(StoreError, &str); 11] = [
        (StoreError::NoStore { path: "/nonexistent".into() }, "--root"),
        (StoreError::Driver { path: "vfs".into(), driver: "vfs".into() }, "overlay"),
        (StoreError::NoImage { reference: "nosuch".into() }, "cstor image list"),
        (StoreError::NoLayer { reference: "nosuch".into() }, "check the name"),
        (StoreError::Json { path: "images.json".into(), source: json }, IMAGE_IS_DAMAGED),
        (StoreError::Id { path: "images.json".into(), id: "../../etc".into(), source: id }, IMAGE_IS_DAMAGED),
        (StoreError::LayerMissing { layer: layer(), child: None }, IMAGE_IS_DAMAGED),
        (StoreError::Cycle { layer: layer() }, IMAGE_IS_DAMAGED),
        (StoreError::Incomplete { layer: layer() }, "pull or build"),
        (
            StoreError::LayerPart { layer: layer(), part: LayerPart::TarSplit, refusal: Refusal::NotFound },
            IMAGE_IS_DAMAGED,
        ),
        (StoreError::Vanished { layer: layer() }, "try again"),
    ];
    for (error, wanted) in table {
        let within = ImageError::Store(error);
        let advised = image(&within).unwrap_or_else(|| class(within.kind()));
        assert!(advised.contains(wanted), "{within}: {advised}");
        let within = Error::Extract(ExtractError::Image(within));
        assert!(advice(&within).contains(wanted), "{within}: {}", advice(&within));
    }
}

#[test]
fn an_error_within_another_has_its_own_advice() {
    let memory = OverMemoryLimit { limit: 1 };
    let program = || "skopeo".to_owned();
    let table: [(Error, &str); 25] = [
        (occupied().into(), "--replace"),
        (RpcError::from(occupied()).into(), "--replace"),
        (ExtractError::from(SourceError::NoHelper { beside: "/usr/bin/program".into() }).into(), "CSTOR_HELPER"),
        (SourceError::TooManyThreads { threads: 2 }.into(), "before any thread is started"),
        (SourceError::NoLauncher { launcher: "podman" }.into(), "install podman"),
        (SourceError::NoLauncher { launcher: "buildah" }.into(), "choose another --launcher"),
        (SourceError::Unexpected.into(), "-v for details"),
        (contents(Refusal::NotFound), IMAGE_IS_DAMAGED),
        (contents(Refusal::Denied), "--helper always"),
        (contents(Refusal::Busy), "ulimit -n"),
        (merge(MergeProblem::Duplicate), IMAGE_IS_DAMAGED),
        (merge(MergeProblem::Memory(memory)), "--memory-limit"),
        (memory.into(), "--memory-limit"),
        (OutputError::from(memory).into(), "--memory-limit"),
        (OutputError::Write(full()).into(), "make room"),
        (SplitFdError::Write(full()).into(), "make room"),
        (SplitFdError::CutShort { after: Vec::new() }.into(), "made again"),
        (CopyError::Write { path: "out".into(), action: "write", source: full() }.into(), "make room"),
        (CopyError::NoDigest { layer: layer() }.into(), "enable_partial_images"),
        (CopyError::Thread.into(), "see the cause above"),
        (RpcError::from(SplitFdError::Write(full())).into(), "make room"),
        (RpcError::from(WireError::DescriptorsLost).into(), "ulimit -n"),
        (ProxyV1Error::NoProgram { program: program() }.into(), "install it"),
        (blob(1), "get the image again, or"),
        (blob(3), "without --via"),
    ];
    for (error, wanted) in table {
        assert!(advice(&error).contains(wanted), "{error}: {}", advice(&error));
    }
    assert_eq!(advice(&Interrupted.into()), "nothing was left behind");
}

#[test]
fn what_doctor_finds_wrong_has_the_advice_of_its_error() {
    assert_eq!(problem(&no_helper().into()), Some(advice(&no_helper())));
    assert!(problem(&Problem::NoReflink).is_some_and(|advice| advice.contains("btrfs or XFS")));
}
