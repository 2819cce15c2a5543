//! Programs' views of files, played on the hosted machine: the tree, open files, pipes, and what several threads of it
//! see of each other.

mod tree;
mod world;
