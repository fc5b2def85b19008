//! What is true of the project as a whole: its documents, its floors, the size of the helper, and what runs cost.

mod docs;
mod floors;
mod helper_size;
mod helper_speed;
mod lock_holds;
mod many_runs;
