//! The helper: which one, who would carry it into the namespace, and what it says of itself when it is started.

use std::os::fd::BorrowedFd;

use cstor_proto::{Confinement, Enforced};

use super::{Finding, Problem, State, Value, shown};
use crate::access::helper::seen::{self, MAPPERS, Mapper, Seen};
use crate::access::helper::subids::{self, Ids};
use crate::access::helper::{Executable, HelperOptions, Launcher, SourceError, Way, missing_layers};
use crate::error::Error;
use crate::storage::Storage;

pub(super) fn examine(storage: Option<&Storage>, options: HelperOptions, not_needed: bool) -> Vec<Finding> {
    let mut findings = vec![needed(not_needed), executable().unless(not_needed), launcher(options.launcher)];
    findings.extend(programs());
    findings.extend([Ids::User, Ids::Group].map(|ids| ranges(ids).unless(not_needed)));
    let Some(storage) = storage else {
        findings.push(Finding::note("helper.start", Value::Unknown, Some(Problem::NoStore)));
        return findings;
    };
    match start(storage) {
        Ok((confinement, way)) => {
            findings.push(Finding::good("helper.start", format!("through {}", way.described())));
            findings.extend(layers(&confinement, options.require_sandbox));
            findings.push(Finding::good("helper.mapped_uids", u64::from(confinement.mapped_uids)));
            findings.push(Finding::good("helper.mapped_gids", u64::from(confinement.mapped_gids)));
        }
        Err(error) => findings.push(Finding::wrong("helper.start", Error::Source(error)).unless(not_needed)),
    }
    findings
}

fn needed(not_needed: bool) -> Finding {
    Finding::good(
        "helper.needed",
        if not_needed { "no, this process opens everything itself" } else { "for some files" },
    )
}

fn executable() -> Finding {
    const NAME: &str = "helper.executable";
    match Executable::find() {
        Ok(Executable::Separate(path)) => Finding::good(NAME, &*path),
        Ok(Executable::Myself(path)) => Finding::good(NAME, format!("{}, this program", shown(&path))),
        Err(error) => Finding::wrong(NAME, Error::Source(error)),
    }
}

/// The way that would be tried first, and why.
fn launcher(launcher: Launcher) -> Finding {
    let why = match (launcher, Way::of(launcher)) {
        (Launcher::Auto, [Way::None]) => "none, since root opens everything",
        (Launcher::Auto, [Way::None, ..]) => "none, since this process has the capability; else podman",
        (Launcher::Auto, _) if seen::on_path("podman").is_none() => "newuidmap, since there is no podman",
        (Launcher::Auto, _) => "podman; newuidmap if it does not answer within 5 seconds",
        (_, [Way::Podman, ..]) => "podman, as it was asked for",
        (_, [Way::Buildah, ..]) => "buildah, as it was asked for",
        (_, [Way::NewUidMap, ..]) => "newuidmap, as it was asked for",
        (_, _) => "none, as it was asked for",
    };
    Finding::good("helper.launcher", why)
}

fn programs() -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, program) in [("program.podman", "podman"), ("program.buildah", "buildah")] {
        findings.push(match seen::on_path(program) {
            Some(path) => Finding::good(name, &*path),
            None => Finding::note(name, Value::Unknown, None),
        });
    }
    let Seen { mappers, .. } = Seen::now();
    for (mapper, program) in mappers.into_iter().zip(MAPPERS) {
        let name = if program == "newuidmap" { "program.newuidmap" } else { "program.newgidmap" };
        let error = match mapper {
            Mapper::Able(path) => {
                findings.push(Finding::good(name, &*path));
                continue;
            }
            Mapper::Missing(program) => SourceError::NoMapper { program },
            Mapper::Powerless(path) => SourceError::PowerlessMapper { path },
        };
        // Whether somebody needs it shows when the helper is started.
        findings.push(Finding::wrong(name, Error::Source(error)).unless(true));
    }
    findings
}

fn ranges(ids: Ids) -> Finding {
    let name = match ids {
        Ids::User => "subids.uids",
        Ids::Group => "subids.gids",
    };
    let error = match subids::own(ids) {
        Ok(ranges) if !ranges.is_empty() => {
            let text: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            return Finding::good(name, text.join(", "));
        }
        Ok(_) => SourceError::NoSubordinateIds { user: subids::Owner::of_this_process().to_string(), file: ids.file() },
        Err(error) => error,
    };
    Finding::wrong(name, Error::Source(error))
}

fn start(storage: &Storage) -> Result<(Confinement, Way), SourceError> {
    let access = storage.access();
    let roots: Vec<BorrowedFd<'_>> = access.store().roots.layered().iter().map(|root| root.dir()).collect();
    let helper = access.helper().ok_or(SourceError::Unexpected)?;
    helper.with(&roots, access.interrupt(), |process| process.facts().ok_or(SourceError::Unexpected))
}

/// One finding for each layer of the sandbox.
fn layers(confinement: &Confinement, required: bool) -> [Finding; 5] {
    let landlock = match confinement.landlock {
        Enforced::Not => "not",
        Enforced::Partly => "partly",
        Enforced::Fully => "fully",
    };
    [
        ("confinement.no_new_privs", confinement.no_new_privs, confinement.no_new_privs.into()),
        ("confinement.capabilities", confinement.regainable & !Confinement::DAC_READ_SEARCH == 0, Value::Unknown),
        ("confinement.nobody", confinement.nobody, confinement.nobody.into()),
        ("confinement.landlock", confinement.landlock == Enforced::Fully, landlock.into()),
        ("confinement.seccomp", confinement.seccomp, confinement.seccomp.into()),
    ]
    .map(|(name, holds, value)| {
        let value = if value == Value::Unknown { holds.into() } else { value };
        let missing = Error::Source(SourceError::Unconfined { missing: missing_layers(confinement) });
        let (state, problem) = match (holds, required) {
            (true, _) => (State::Good, None),
            (false, true) => (State::Wrong(missing.kind()), Some(missing.into())),
            (false, false) => (State::Note, None),
        };
        Finding { name, state, value, problem }
    })
}
