"""Does it hurt a thief? Models that are asked through countermeasures, and students that learn from the answers."""
