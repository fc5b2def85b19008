//! What `cstor container …` takes.

use clap::{Args as Group, Subcommand};

use super::choice::{Format, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// List the containers of the store, whatever their state.
    #[command(visible_alias = "ls")]
    List(ListContainers),
    /// Show what a container has added (A), changed (C) and deleted (D) since it was made.
    Diff(DiffContainer),
}

#[derive(Debug, Group)]
pub(crate) struct ListContainers {
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Group)]
pub(crate) struct DiffContainer {
    /// The container: its name, its id, or the beginning of that.
    pub(crate) container: String,
    /// Show also the files that podman makes in every container, such as /etc/hosts.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// A line for each path, or JSON for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}
