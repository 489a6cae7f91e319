"""Other libraries' ways of training, each imported only when it is met."""
