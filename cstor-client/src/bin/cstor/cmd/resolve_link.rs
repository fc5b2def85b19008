//! `cstor resolve-link`.

use std::io::Write;

use cstor_client::error::StoreError;

use super::open_store;
use crate::args::{ResolveLink, Store};
use crate::exit::Failure;

pub(crate) fn run(store: &Store, args: &ResolveLink, out: &mut dyn Write) -> Result<(), Failure> {
    match open_store(store)?.resolve_link(&args.link)? {
        Some(layer) => Ok(writeln!(out, "{layer}")?),
        None => Err(StoreError::NoLayer { reference: args.link.clone() }.into()),
    }
}
