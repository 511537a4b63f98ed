"""Search over settings: proposals, successive halving, fronts. Pure: nothing is trained here."""
