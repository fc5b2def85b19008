//! What is true of the project as a whole: its documents, its floors, the size of the helper, what runs cost,
//! and that stores stay as they are.

mod docs;
mod floors;
mod helper_size;
mod helper_speed;
mod lock_holds;
mod many_runs;
mod readonly;
