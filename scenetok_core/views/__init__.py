"""Pictures before they are encoded: which to take, where their cameras are, whether these fit, what they have seen."""
