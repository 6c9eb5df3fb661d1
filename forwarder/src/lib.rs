//! The forwarder daemon and CLI as a library.
