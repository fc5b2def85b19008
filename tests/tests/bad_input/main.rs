//! Input that is damaged, hostile or merely odd, and machines that are short of something. Each run ends in a right
//! result, or in the right exit code with nothing left.

mod bad_header;
mod bad_store;
mod bad_tar_split;
mod bad_tree;
mod bounds;
mod damage;
mod faults;
mod foreign_tars;
mod limits;
mod scarcity;
