//! Which processors there are, and which of them a node takes.

/// Why the processors asked for cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    #[error(
        "{asked} cores asked for, but this process may run on {available}: give --cores {available} or less"
    )]
    TooMany { asked: usize, available: usize },
    #[error("processor {cpu} is not one this process may run on: choose from {available:?}")]
    NoSuch { cpu: usize, available: Vec<usize> },
    #[error("processor {cpu} is named twice: a core has one of its own")]
    Twice { cpu: usize },
    #[error("no core asked for: a node has at least one")]
    None,
    #[error(
        "{asked} cores asked for, a node has at most {cores_max}: connection ids carry the core in one byte"
    )]
    AboveLimit { asked: usize, cores_max: usize },
    #[error("the system does not say which processors this process may run on")]
    Unknown,
}

/// A core's number travels in one byte, and so does the number of cores.
pub const CORES_MAX: usize = 255;

/// The processors this process may run on (its affinity mask), in ascending order.
///
/// # Errors
/// [`CpuError::Unknown`].
pub fn available_cpus() -> Result<Vec<usize>, CpuError> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().ok_or(CpuError::Unknown)?.into_iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() { Err(CpuError::Unknown) } else { Ok(cpus) }
}

/// The first `count` available processors.
///
/// # Errors
/// [`CpuError`].
pub fn choose_cpus(count: usize) -> Result<Vec<usize>, CpuError> {
    let mut cpus = available_cpus()?;
    if count > cpus.len() {
        return Err(CpuError::TooMany { asked: count, available: cpus.len() });
    }
    cpus.truncate(count);
    check_list(&cpus, &cpus)?;
    Ok(cpus)
}

/// Checks a list of processors given by hand.
///
/// # Errors
/// [`CpuError`].
pub fn check_cpus(cpus: &[usize]) -> Result<(), CpuError> {
    check_list(cpus, &available_cpus()?)
}

fn check_list(cpus: &[usize], available: &[usize]) -> Result<(), CpuError> {
    if cpus.is_empty() {
        return Err(CpuError::None);
    }
    if cpus.len() > CORES_MAX {
        return Err(CpuError::AboveLimit { asked: cpus.len(), cores_max: CORES_MAX });
    }
    for (index, cpu) in cpus.iter().enumerate() {
        if !available.contains(cpu) {
            return Err(CpuError::NoSuch { cpu: *cpu, available: available.to_vec() });
        }
        if cpus[..index].contains(cpu) {
            return Err(CpuError::Twice { cpu: *cpu });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_cores_than_there_are_is_refused_with_their_number() {
        let available = available_cpus().unwrap().len();
        assert_eq!(choose_cpus(available).unwrap().len(), available);
        assert_eq!(choose_cpus(available + 1), Err(CpuError::TooMany { asked: available + 1, available }));
        assert_eq!(choose_cpus(0), Err(CpuError::None));
    }

    #[test]
    fn a_list_names_existing_processors_once() {
        assert_eq!(check_list(&[0, 1], &[0, 1, 2]), Ok(()));
        assert_eq!(check_list(&[0, 0], &[0, 1]), Err(CpuError::Twice { cpu: 0 }));
        assert_eq!(check_list(&[5], &[0, 1]), Err(CpuError::NoSuch { cpu: 5, available: vec![0, 1] }));
        assert_eq!(check_list(&[], &[0]), Err(CpuError::None));
    }
}
