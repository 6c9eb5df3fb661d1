//! Another configuration while the daemon runs.

use std::sync::Arc;

use super::{running::Running, start};
use crate::{config, datapath::Sizes, report::counted};

impl Running {
    /// Reads the configuration again; a bad one changes nothing. The service manager is told.
    pub(super) fn reload_file(&self) -> anyhow::Result<String> {
        self.manager.reloading();
        let result = self.read_file_again();
        self.manager.ready(&match &result {
            Ok(_) => self.summary(),
            Err(error) => {
                let text = format!("{error:#}");
                let first = text.lines().next().unwrap_or_default();
                format!("the configuration stays as it was: {first}")
            }
        });
        result
    }

    fn read_file_again(&self) -> anyhow::Result<String> {
        let Some(path) = &self.options.config_path else {
            anyhow::bail!(
                "nothing to reload: this forwarder was started with flags, not with a file"
            );
        };
        let config = config::load(path)?;
        let mut state = self.state();
        start::check_interfaces(&config, &state.network)?;
        anyhow::ensure!(
            Sizes::from(&config.limits) == Sizes::from(&state.config.limits),
            "`flows`, `half-open` and `rules` of `limits` cannot change while running: stop the daemon, `forwarder detach`, and start it again"
        );
        anyhow::ensure!(
            config.control == state.config.control && config.log == state.config.log,
            "`control` and `log` cannot change while running: restart the daemon, traffic goes on meanwhile"
        );
        anyhow::ensure!(
            config.history == state.config.history,
            "`history` cannot change while running: restart the daemon, traffic goes on meanwhile"
        );
        self.metrics.change(config.metrics)?;
        let before = std::mem::replace(&mut state.config, Arc::new(config));
        let network = state.network.clone();
        let in_force = match state.apply(network.clone()) {
            Ok(in_force) => in_force,
            Err(error) => {
                self.metrics.change(before.metrics)?;
                state.config = before;
                state.apply(network)?;
                return Err(error);
            }
        };
        self.published.publish_setup(state.setup()?);
        let flows = state.change_flows(&in_force)?;
        self.ended.notify_one();
        self.telling.log_to(state.config.flow_log.as_ref())?;
        Ok(format!(
            "reloaded {}: {} on {}{}",
            path.display(),
            counted(state.config.rule_count(), "rule"),
            counted(state.config.interfaces.len(), "interface"),
            flows.map_or_else(String::new, |flows| format!("; {flows}"))
        ))
    }
}
