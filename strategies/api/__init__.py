"""What a strategy author imports: values, the Run and Engine protocols, errors, and the registry."""
