//! One function of bytes for each parser.

pub mod assembler;
pub mod batch;
pub mod checkpoint;
pub mod command_line;
pub mod decompress;
pub mod formats;
pub mod frame;
pub mod group_record;
pub mod identity;
pub mod index;
pub mod kafka;
pub mod messages;
pub mod metadata;
pub mod quic;
pub mod recordbatch;
pub mod recovery;
pub mod segment;
pub mod settings;
