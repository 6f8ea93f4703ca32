"""Normal forms of mathematical answers: what they denote, exactly, whatever their notation."""
