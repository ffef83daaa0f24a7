//! What nodes tell each other beside the log, to spare each other a look. Nothing is decided by a hint: who hears one looks
//! for himself, once.

/// How many coupons of a campaign are left, as somebody saw it last.
pub trait AvailabilityHints: Send + Sync {
    /// So many are left, as of just now; 0 is for good.
    fn tell(&self, campaign: &str, left: u32);
    /// Whether somebody has seen that none is left. Does not wait: the first question about a campaign is answered `false`.
    fn is_sold_out(&self, campaign: &str) -> bool;
}
