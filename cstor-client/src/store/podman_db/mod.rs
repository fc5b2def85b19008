//! podman's own database: where it says that the store is, and in which state its containers are (`statuses.rs`).
//!
//! podman keeps the paths of the moment when the database was made, and believes them more than storage.conf
//! (libpod/sqlite_state.go, `GetDBConfig`; libpod/runtime.go, `mergeDBConfig`). Nothing that goes wrong here is an
//! error: then it is not known what podman would do.

mod statuses;

pub use statuses::{ContainerState, ContainerStatus, ContainerStatuses};

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::{Errno, read};

use crate::base::ambient;

/// What podman's database says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Database {
    /// There is no database.
    None,
    /// The old database, of podman up to 5, whose format is not read here.
    Bolt {
        /// The file.
        path: PathBuf,
    },
    /// The paths and the driver of an SQLite database; empty where podman wrote nothing.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// `GraphRoot`.
        root: PathBuf,
        /// `RunRoot`.
        run_root: PathBuf,
        /// `GraphDriver`.
        driver: String,
    },
    /// An SQLite database that cannot be read now.
    Unknown {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// The header of an SQLite file (sqlite.org/fileformat.html, section 1.3): its magic, and the versions that a writer
/// and a reader must know, which are 1 unless it has a write-ahead log.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER: usize = 20;

/// A database of podman, whatever is asked of it.
enum Found {
    None,
    Bolt(PathBuf),
    Sqlite(PathBuf),
    Unknown { path: PathBuf, why: String },
}

/// Looks below `place`, which is the root or, for a transient store, the run root.
fn find(root: &Path, place: &Path) -> Found {
    let path = place.join("db.sql");
    match header(&path) {
        Ok(header) if header.starts_with(MAGIC) => match header.get(18..HEADER) {
            Some([1, 1]) => Found::Sqlite(path),
            // Even to a reader, SQLite would add files of its own beside the database.
            _ => Found::Unknown { path, why: "has a write-ahead log, which podman does not use".to_owned() },
        },
        Ok(header) if header.is_empty() => Found::None,
        Ok(_) => Found::Unknown { path, why: "is no SQLite database".to_owned() },
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let path = root.join("libpod/bolt_state.db");
            if header(&path).is_ok() { Found::Bolt(path) } else { Found::None }
        }
        Err(errno) => Found::Unknown { path, why: errno.to_string() },
    }
}

impl Database {
    /// Looks below `place`, which is the root or, for a transient store, the run root.
    pub(super) fn read(root: &Path, place: &Path) -> Database {
        match find(root, place) {
            Found::None => Database::None,
            Found::Bolt(path) => Database::Bolt { path },
            Found::Sqlite(path) => paths(path),
            Found::Unknown { path, why } => Database::Unknown { path, why },
        }
    }
}

/// The beginning of a regular file.
fn header(path: &Path) -> Result<Vec<u8>, Errno> {
    let file = ambient::open(
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; HEADER];
    let length = read(&file, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Asks an SQLite database.
#[cfg(feature = "podman-db")]
fn ask<T>(path: &Path, query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>) -> Result<T, String> {
    use rusqlite::{Connection, OpenFlags};

    /// podman's transactions take milliseconds, and exclude readers.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

    let asked = || {
        // Read-only, SQLite never rolls back what an interrupted podman left in a journal: that is an error then.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(path, flags)?;
        database.busy_timeout(PATIENCE)?;
        query(&database)
    };
    asked().map_err(|error| error.to_string())
}

#[cfg(feature = "podman-db")]
fn paths(path: PathBuf) -> Database {
    let asked = ask(&path, |database| {
        database.query_row("SELECT GraphRoot, RunRoot, GraphDriver FROM DBConfig", [], |row| {
            let text = |column: usize| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
            Ok((text(0)?, text(1)?, text(2)?))
        })
    });
    match asked {
        Ok((root, run_root, driver)) => Database::Sqlite { root: root.into(), run_root: run_root.into(), driver, path },
        Err(why) => Database::Unknown { why, path },
    }
}

/// Why nothing is asked where SQLite was left out.
#[cfg(not(feature = "podman-db"))]
const LEFT_OUT: &str = "cstor was built without the feature podman-db";

#[cfg(not(feature = "podman-db"))]
fn paths(path: PathBuf) -> Database {
    Database::Unknown { path, why: LEFT_OUT.to_owned() }
}

#[cfg(test)]
#[cfg(feature = "podman-db")]
#[allow(clippy::disallowed_methods, reason = "a test opens what it has made by path")]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use rustix::fs::CWD;

    /// As podman makes it (libpod/sqlite_state_internal.go).
    const TABLE: &str = "CREATE TABLE DBConfig(ID INTEGER PRIMARY KEY NOT NULL, SchemaVersion INTEGER NOT NULL, \
         OS TEXT NOT NULL, StaticDir TEXT NOT NULL, TmpDir TEXT NOT NULL, GraphRoot TEXT NOT NULL, RunRoot TEXT NOT NULL, \
         GraphDriver TEXT NOT NULL, VolumeDir TEXT NOT NULL, CHECK (ID IN (1)))";
    const ROW: &str =
        "INSERT INTO DBConfig VALUES (1, 1, 'linux', '/g/libpod', '/r/libpod', '/g', '/r', 'overlay', '/g/v')";

    fn look(make: impl FnOnce(&Path)) -> (Database, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let names = || {
            let mut names: Vec<String> =
                rustix::fs::Dir::read_from(rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
                    .collect();
            names.sort();
            names
        };
        let before = names();
        let found = Database::read(dir.path(), dir.path());
        assert_eq!(names(), before, "a reader creates nothing");
        (found, before)
    }

    fn why(database: Database) -> String {
        match database {
            Database::Unknown { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_paths_of_podman_are_read() {
        let (found, _) = look(|dir| {
            let database = Connection::open(dir.join("db.sql")).unwrap();
            database.execute_batch(&format!("{TABLE}; {ROW}")).unwrap();
        });
        let Database::Sqlite { root, run_root, driver, .. } = found else { panic!("{found:?}") };
        assert_eq!((root, run_root, driver.as_str()), ("/g".into(), "/r".into(), "overlay"));
        assert_eq!(look(|_| {}).0, Database::None);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        assert!(
            why(look(|dir| drop(Connection::open(dir.join("db.sql")).unwrap().execute_batch("CREATE TABLE t(x)"))).0)
                .contains("no such table")
        );
        let empty_table = look(|dir| Connection::open(dir.join("db.sql")).unwrap().execute_batch(TABLE).unwrap()).0;
        assert!(why(empty_table).contains("no rows"));
        let wal = look(|dir| {
            Connection::open(dir.join("db.sql"))
                .unwrap()
                .execute_batch(&format!("PRAGMA journal_mode=WAL; {TABLE}; {ROW}"))
                .unwrap()
        });
        assert!(why(wal.0).contains("write-ahead log"));
        let text = |text: &'static str| {
            move |dir: &Path| {
                let file = rustix::fs::open(dir.join("db.sql"), OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
                rustix::io::write(&file, text.as_bytes()).unwrap();
            }
        };
        assert_eq!(look(text("")).0, Database::None, "podman has only begun");
        assert!(why(look(text("hello, this is not a database")).0).contains("no SQLite database"));
        assert!(why(look(text("SQLite format 3\0\x10\0\x01\x01, cut off")).0).contains("not a database"));
        let fifo = look(|dir| rustix::fs::mknodat(CWD, dir.join("db.sql"), FileType::Fifo, Mode::RUSR, 0).unwrap());
        assert!(why(fifo.0).contains("Invalid argument"));
    }

    /// A journal that an interrupted writer left: only a writer may roll it back.
    #[test]
    fn a_hot_journal_is_unknown() {
        let (found, names) = look(|dir| {
            // The writer is ended in the middle of a transaction that has reached the file: its journal is copied
            // while it is valid, and put back when the connection has removed it.
            let path = dir.join("db.sql");
            let writer = Connection::open(&path).unwrap();
            writer
                .execute_batch(&format!("{TABLE}; {ROW}; PRAGMA cache_size=1; CREATE TABLE big(x); BEGIN EXCLUSIVE"))
                .unwrap();
            for _ in 0..2000 {
                writer.execute("INSERT INTO big VALUES (randomblob(500))", []).unwrap();
            }
            let copy = |from: PathBuf, to: PathBuf| {
                let from = rustix::fs::open(from, OFlags::RDONLY, Mode::empty()).unwrap();
                let to = rustix::fs::open(to, OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC, Mode::RUSR | Mode::WUSR)
                    .unwrap();
                while rustix::fs::sendfile(&to, &from, None, 1 << 20).unwrap() > 0 {}
            };
            copy(path.clone(), dir.join("half"));
            copy(dir.join("db.sql-journal"), dir.join("journal"));
            drop(writer);
            copy(dir.join("half"), path);
            copy(dir.join("journal"), dir.join("db.sql-journal"));
        });
        assert!(names.contains(&"db.sql-journal".to_owned()), "{names:?}");
        assert!(why(found).contains("readonly"), "the journal must be seen");
    }

    #[test]
    fn the_old_database_is_recognised() {
        let (found, _) = look(|dir| {
            rustix::fs::mkdirat(CWD, dir.join("libpod"), Mode::RWXU).unwrap();
            rustix::fs::open(dir.join("libpod/bolt_state.db"), OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        });
        assert!(matches!(found, Database::Bolt { path } if path.ends_with("libpod/bolt_state.db")));
    }
}
