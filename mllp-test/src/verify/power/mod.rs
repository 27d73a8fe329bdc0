//! Power cuts below a real file system, on one machine: the disk, what its write log says, and the images of the medium
//! that a cut may leave. Only the engine's store is on that disk; whoever keeps the books writes elsewhere.

pub mod disk;
pub mod log;
pub mod mount;

pub use disk::{Disk, Image};
pub use mount::Mounted;
