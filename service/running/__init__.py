"""What works behind the routes: the model's thread, jobs, upkeep."""
