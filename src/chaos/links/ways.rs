//! The ways between the nodes, whatever they are made of.

use super::{Direction, Links, Namespaces, Weather};
use crate::chaos::ChaosError;

/// How links are cut and slowed.
pub enum Ways {
    /// Level A: proxies before every link.
    Proxies(Links),
    /// Level B: the nodes' namespaces.
    Namespaces(Namespaces),
}

impl Ways {
    /// Puts directions under some weather until the order of this name is lifted.
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: the machine cannot do it.
    pub fn order(&self, name: &str, directions: &[Direction], weather: Weather) -> Result<(), ChaosError> {
        match self {
            Self::Proxies(links) => {
                links.order(name, directions, weather);
                Ok(())
            }
            Self::Namespaces(spaces) => spaces.order(name, directions, weather),
        }
    }

    /// Ends an order; what it was. `None` when there is none of this name.
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: the machine cannot do it.
    pub fn lift(&self, name: &str) -> Result<Option<(Vec<Direction>, Weather)>, ChaosError> {
        match self {
            Self::Proxies(links) => Ok(links.lift(name)),
            Self::Namespaces(spaces) => spaces.lift(name),
        }
    }
}
