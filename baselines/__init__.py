"""The nine baselines. Importing this package registers every model file in it."""
