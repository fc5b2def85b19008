//! What the tests of cstor share. Nothing here is part of the product: it starts processes, reads by path and panics
//! when the lab is not what it should be.

#![forbid(unsafe_code)]

pub mod agreement;
pub mod alone;
pub mod built;
pub mod forge;
pub mod lab;
pub mod peer;
pub mod run;
pub mod serving;
pub mod tree;
