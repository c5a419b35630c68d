//! Which core of which node gets a partition: the one with the fewest, the lowest of equals.

use std::collections::BTreeMap;

use engine_api::{CoreId, NodeId};

use crate::state::Node;

/// Partitions per core.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loads {
    partitions: BTreeMap<(NodeId, CoreId), u32>,
}

impl Loads {
    pub(crate) fn new(nodes: &BTreeMap<NodeId, Node>) -> Self {
        let cores =
            nodes.iter().flat_map(|(id, node)| (0..node.cores).map(move |core| ((*id, CoreId(core)), 0)));
        Self { partitions: cores.collect() }
    }

    pub(crate) fn count(&mut self, node: NodeId, core: CoreId) {
        if let Some(partitions) = self.partitions.get_mut(&(node, core)) {
            *partitions += 1;
        }
    }

    /// The partition has gone.
    pub(crate) fn uncount(&mut self, node: NodeId, core: CoreId) {
        if let Some(partitions) = self.partitions.get_mut(&(node, core)) {
            *partitions -= 1;
        }
    }

    /// Partitions of all cores of `node`.
    pub(crate) fn of_node(&self, node: NodeId) -> u32 {
        self.partitions
            .range((node, CoreId(0))..=(node, CoreId(u8::MAX)))
            .map(|(_, partitions)| partitions)
            .sum()
    }

    /// Among the cores that `allowed` names; counts the partition there. `None` when there are none.
    pub(crate) fn place(&mut self, allowed: impl Fn(NodeId) -> bool) -> Option<(NodeId, CoreId)> {
        let (place, partitions) = self
            .partitions
            .iter_mut()
            .filter(|((node, _), _)| allowed(*node))
            .min_by_key(|((node, core), partitions)| (**partitions, *node, *core))?;
        *partitions += 1;
        Some(*place)
    }
}
