//! Programs' views of files, played on the hosted machine: the tree, open files, pipes, and what several threads of it
//! see of each other.

mod archive;
mod failures;
mod made_up;
mod memory;
mod open;
mod oracle;
mod pipe;
mod poll;
mod socket;
mod table;
mod terminal;
mod tree;
mod wait;
mod world;
