"""How good are images? The field's metrics, equal to the programs that papers use."""
