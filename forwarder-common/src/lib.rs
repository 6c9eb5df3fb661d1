#![no_std]
//! Shared by the kernel and userspace halves.
