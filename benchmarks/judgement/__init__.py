"""One bench of judgement: real small trainings, broken in known ways, and what a monitor says of them."""
