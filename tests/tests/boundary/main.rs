//! The privilege boundary and the sandboxes: how the helper is started, what it may do and answer, how it dies, and what
//! a process can no longer do once it is confined.

mod as_owner;
mod claims;
mod confinement;
mod helper_death;
mod launchers;
mod protocol;
mod sandbox;
