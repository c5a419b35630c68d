//! The room through its public face.

mod frames;
mod mutations;
mod records;
mod support;
mod vectors;
