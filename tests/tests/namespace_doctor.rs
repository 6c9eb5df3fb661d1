//! `forwarder doctor` on hosts that really have the fault: it is found, the command that is given is run, and then it is
//! gone. What no namespace can be made to have, network cards above all, is tested on facts alone, in
//! `forwarder/src/doctor/checks`.

#[path = "namespace_doctor/devices.rs"]
mod devices;
#[path = "namespace_doctor/firewall.rs"]
mod firewall;
#[path = "namespace_doctor/host.rs"]
mod host;
#[path = "namespace_doctor/patient.rs"]
mod patient;
#[path = "namespace_doctor/programs.rs"]
mod programs;
#[path = "namespace_doctor/routes.rs"]
mod routes;
#[path = "namespace_doctor/services.rs"]
mod services;
