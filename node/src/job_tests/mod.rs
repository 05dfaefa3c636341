//! Both ends of the job protocol against each other and against liars, on a real ledger, with
//! streams in memory and a Cargo that does what its input says.

mod consumers;
mod honest;
mod islands;
mod money;
mod raw;
mod runtime;
mod world;
