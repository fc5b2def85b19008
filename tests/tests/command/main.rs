//! The programs `cstor` and `tar-diff` as a user or a script meets them: what they print, what they write where, and how
//! they end.

mod cli;
mod commands;
mod configuration;
mod destination;
mod doctor;
mod extract;
mod host_xattrs;
mod image_copy;
mod image_list;
mod image_proxy;
mod info;
mod layer_export;
mod remains;
mod replace;
mod serve;
mod signals;
mod tar_diff;
mod territory;
