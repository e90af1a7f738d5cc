"""What a person in a picture is: how to find one, describe one, and how well it was done."""
