//! What each node sent and received. Called by `run`.

use super::{
    Picture, Unit,
    axis::Axis,
    figure::{Drawn, Figure, Mark, Panel},
    style::{BLUE, INK, ORANGE, filled, stroke},
};
use crate::output::{Error, stats::Distribution};

/// Up to so many nodes have a bar with a name.
const MOST_NAMED: usize = 12;
/// Steps of the outline when there are more nodes.
const MOST_STEPS: usize = 400;

/// One node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeTraffic {
    pub name: String,
    pub sent_bytes: f64,
    pub received_bytes: f64,
}

impl NodeTraffic {
    /// Halves, since the sum of huge ones is infinite.
    fn busy(&self) -> f64 {
        self.sent_bytes / 2.0 + self.received_bytes / 2.0
    }
}

/// Nodes side by side, the busiest first: what they sent upwards, what they received downwards.
///
/// # Errors
/// [`Error::Draw`]: ours.
pub fn traffic(title: &str, nodes: &[NodeTraffic]) -> Result<Picture, Error> {
    let mut nodes: Vec<NodeTraffic> =
        nodes.iter().filter(|node| node.busy().is_finite()).cloned().collect();
    // Of equals the first stays first.
    nodes.sort_by(|one, other| other.busy().total_cmp(&one.busy()));
    let mut figure = Figure::new(title, summary(&nodes));
    if nodes.is_empty() {
        return figure.without_data();
    }
    figure.legend = vec![
        ("sent (up)".to_owned(), Mark::Area, BLUE),
        ("received (down)".to_owned(), Mark::Area, ORANGE),
    ];
    let x = if nodes.len() <= MOST_NAMED {
        Axis::names("", &nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>())
    } else {
        Axis::up_to("nodes, the busiest first", Unit::Count, nodes.len() as f64)
    };
    let bounds = nodes.iter().flat_map(|node| [node.sent_bytes, -node.received_bytes]);
    let mut y = Axis::from_zero("received | sent", Unit::Bytes, bounds);
    // Down is a direction, not a sign.
    for (_, text) in &mut y.ticks {
        *text = text.trim_start_matches('-').to_owned();
    }
    figure.draw(|area| {
        let mut panel = Panel::draw(area, x, y)?;
        if nodes.len() <= MOST_NAMED {
            bars(&mut panel, &nodes)?
        } else {
            steps(&mut panel, &nodes)?
        }
        panel.line([(f64::MIN, 0.0), (f64::MAX, 0.0)], stroke(INK, 1.0))
    })
}

fn bars(panel: &mut Panel<'_, '_>, nodes: &[NodeTraffic]) -> Drawn {
    for (place, node) in nodes.iter().enumerate() {
        let (left, right) = (place as f64 - 0.36, place as f64 + 0.36);
        panel.rectangle((left, 0.0), (right, node.sent_bytes), filled(BLUE, 0.85))?;
        panel.rectangle((left, 0.0), (right, -node.received_bytes), filled(ORANGE, 0.85))?;
    }
    Ok(())
}

/// One outline for all nodes; each step shows the busiest of the nodes that share it.
fn steps(panel: &mut Panel<'_, '_>, nodes: &[NodeTraffic]) -> Drawn {
    let size = nodes.len().div_ceil(MOST_STEPS);
    type Bytes = fn(&NodeTraffic) -> f64;
    let directions: [(Bytes, f64, _); 2] =
        [(|node| node.sent_bytes, 1.0, BLUE), (|node| node.received_bytes, -1.0, ORANGE)];
    for (bytes, sign, color) in directions {
        let outline = nodes.chunks(size).enumerate().flat_map(|(step, nodes)| {
            let most = sign * nodes.iter().map(bytes).fold(0.0, f64::max);
            let left = (step * size) as f64;
            [(left, most), (left + nodes.len() as f64, most)]
        });
        let base = [(0.0, 0.0), (nodes.len() as f64, 0.0)].into_iter();
        panel.band(outline.collect::<Vec<_>>(), base, filled(color, 0.85))?;
    }
    Ok(())
}

fn summary(nodes: &[NodeTraffic]) -> String {
    let sent: Distribution = nodes.iter().map(|node| node.sent_bytes).collect();
    let received: Distribution = nodes.iter().map(|node| node.received_bytes).collect();
    let (Some(sent_p50), Some(received_p50), Some(sent_max)) =
        (sent.p50(), received.p50(), sent.max())
    else {
        return String::new();
    };
    let (sent_p50, received_p50) = (bytes(sent_p50), bytes(received_p50));
    format!(
        "{} nodes: the median node sent {sent_p50} and received {received_p50}; the most that one \
         sent is {}",
        nodes.len(),
        bytes(sent_max)
    )
}

/// An amount of data in three digits or so.
pub(crate) fn bytes(value: f64) -> String {
    match value {
        1e12.. => format!("{:.1} TB", value / 1e12),
        1e9.. => format!("{:.1} GB", value / 1e9),
        1e6.. => format!("{:.1} MB", value / 1e6),
        1e3.. => format!("{:.1} kB", value / 1e3),
        _ => format!("{value:.0} bytes"),
    }
}
