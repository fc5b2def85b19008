//! In which state containers are, and in which pods: what podman's database alone knows.
//!
//! The tables are those of libpod/sqlite_state_internal.go, `createSQLiteTables`; the numbers of states those of
//! libpod/define/containerstate.go.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::{Found, find};

/// What podman's database says of containers, by their ids.
#[derive(Debug, Clone, Default)]
pub struct ContainerStatuses {
    known: Option<HashMap<String, ContainerStatus>>,
    why_unknown: Option<String>,
}

/// What it says of one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerStatus {
    /// In which state it is.
    pub state: ContainerState,
    /// With which code it ended, if it has.
    pub exit_code: Option<i32>,
    /// The name of the pod that it belongs to.
    pub pod: Option<String>,
}

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContainerState {
    /// A number that is not known here.
    Unknown,
    /// Written down, but not made yet.
    Configured,
    /// Made, but not started.
    Created,
    /// Running.
    Running,
    /// Stopped, but not cleaned up.
    Stopped,
    /// Paused.
    Paused,
    /// Ended and cleaned up.
    Exited,
    /// Being removed.
    Removing,
    /// Being stopped.
    Stopping,
}

impl ContainerState {
    #[cfg(feature = "podman-db")]
    fn of(number: i64) -> ContainerState {
        match number {
            1 => ContainerState::Configured,
            2 => ContainerState::Created,
            3 => ContainerState::Running,
            4 => ContainerState::Stopped,
            5 => ContainerState::Paused,
            6 => ContainerState::Exited,
            7 => ContainerState::Removing,
            8 => ContainerState::Stopping,
            _ => ContainerState::Unknown,
        }
    }

    /// Whether its processes may write to its files.
    pub fn is_active(self) -> bool {
        matches!(self, ContainerState::Running | ContainerState::Paused | ContainerState::Stopping)
    }
}

impl fmt::Display for ContainerState {
    /// The words of `podman ps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContainerState::Unknown => "unknown",
            // podman shows both as created.
            ContainerState::Configured | ContainerState::Created => "created",
            ContainerState::Running => "running",
            ContainerState::Stopped => "stopped",
            ContainerState::Paused => "paused",
            ContainerState::Exited => "exited",
            ContainerState::Removing => "removing",
            ContainerState::Stopping => "stopping",
        })
    }
}

impl ContainerStatuses {
    /// What the database below `place` says, which is the root or, for a transient store, the run root.
    pub(crate) fn read(root: &Path, place: &Path) -> ContainerStatuses {
        let unknown = |why: String| ContainerStatuses { known: None, why_unknown: Some(why) };
        match find(root, place) {
            Found::None => ContainerStatuses::default(),
            Found::Bolt(path) => {
                unknown(format!("{}: is in the format of podman 4, which is not read", path.display()))
            }
            Found::Sqlite(path) => match query(&path) {
                Ok(known) => ContainerStatuses { known: Some(known), why_unknown: None },
                Err(why) => unknown(format!("{}: {why}", path.display())),
            },
            Found::Unknown { path, why } => unknown(format!("{}: {why}", path.display())),
        }
    }

    /// What it says of a container; nothing of the working containers of buildah.
    pub fn of(&self, id: &str) -> Option<&ContainerStatus> {
        self.known.as_ref()?.get(id)
    }

    /// Whether there is a database that could be read.
    pub fn are_known(&self) -> bool {
        self.known.is_some()
    }

    /// Why there is a database, but nothing known of it.
    pub fn why_unknown(&self) -> Option<&str> {
        self.why_unknown.as_deref()
    }
}

#[cfg(feature = "podman-db")]
fn query(path: &Path) -> Result<HashMap<String, ContainerStatus>, String> {
    const QUERY: &str = "SELECT ContainerConfig.ID, ContainerState.State, ContainerState.ExitCode, PodConfig.Name \
         FROM ContainerConfig LEFT JOIN ContainerState ON ContainerState.ID = ContainerConfig.ID \
         LEFT JOIN PodConfig ON PodConfig.ID = ContainerConfig.PodID";
    super::ask(path, |database| {
        let mut statement = database.prepare(QUERY)?;
        let rows = statement.query_map([], |row| {
            let state = ContainerState::of(row.get::<_, Option<i64>>(1)?.unwrap_or_default());
            let ended = matches!(state, ContainerState::Exited | ContainerState::Stopped);
            let exit_code = row.get::<_, Option<i32>>(2)?.filter(|_| ended);
            Ok((row.get(0)?, ContainerStatus { state, exit_code, pod: row.get(3)? }))
        })?;
        rows.collect()
    })
}

#[cfg(not(feature = "podman-db"))]
fn query(_: &Path) -> Result<HashMap<String, ContainerStatus>, String> {
    Err(super::LEFT_OUT.to_owned())
}
