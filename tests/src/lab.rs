//! Machines of a network that comes apart: one network namespace for each, joined by a switch with
//! two halves (Linux, as root, with iproute2).

use anyhow::{Context as _, ensure};
use std::process::{Command, Stdio};

/// Namespaces of this process, on one segment. They are gone when it is dropped.
#[derive(Debug)]
pub struct Lab {
    hub: String,
    machines: Vec<String>,
}

/// Runs `ip` with these arguments.
fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.context("`ip` of iproute2 is not there")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

impl Lab {
    /// Makes `count` machines on one segment.
    ///
    /// # Errors
    /// When this process may not make namespaces.
    pub fn new(count: u8) -> anyhow::Result<Self> {
        let own = std::process::id();
        let mut lab = Self { hub: format!("archipelag-{own}-hub"), machines: Vec::new() };
        ip(&["netns", "add", &lab.hub])?;
        for bridge in ["half0", "half1"] {
            ip(&["-n", &lab.hub, "link", "add", bridge, "type", "bridge"])?;
            ip(&["-n", &lab.hub, "link", "set", bridge, "up"])?;
        }
        for index in 0..count {
            let (machine, port) = (format!("archipelag-{own}-{index}"), format!("port{index}"));
            ip(&["netns", "add", &machine])?;
            lab.machines.push(machine.clone());
            let pair = ["type", "veth", "peer", "name", "eth0", "netns", &machine];
            ip(&[&["-n", &lab.hub, "link", "add", &port], &pair[..]].concat())?;
            ip(&["-n", &lab.hub, "link", "set", &port, "master", "half0", "up"])?;
            let address = format!("{}/24", Self::address(index));
            ip(&["-n", &machine, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &machine, "link", "set", "eth0", "up"])?;
            ip(&["-n", &machine, "link", "set", "lo", "up"])?;
        }
        Ok(lab)
    }

    /// The address of a machine on the segment.
    #[must_use]
    pub fn address(index: u8) -> String {
        format!("10.213.0.{}", u16::from(index) + 1)
    }

    /// A command that runs `program` on a machine. The process is the program's own.
    #[must_use]
    pub fn command(&self, index: u8, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        let machine = self.machines.get(usize::from(index)).map_or("", String::as_str);
        command.args(["netns", "exec", machine]).arg(program);
        command
    }

    /// Puts each machine on its half of the switch; all on one half is a whole network.
    ///
    /// # Errors
    /// When the switch can't be changed.
    pub fn divide(&self, halves: &[bool]) -> anyhow::Result<()> {
        for (index, half) in halves.iter().enumerate() {
            let (port, bridge) = (format!("port{index}"), if *half { "half1" } else { "half0" });
            ip(&["-n", &self.hub, "link", "set", &port, "master", bridge])?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.machines.iter().chain([&self.hub]) {
            if let Err(error) = ip(&["netns", "del", name]) {
                eprintln!("{error:#}");
            }
        }
    }
}
