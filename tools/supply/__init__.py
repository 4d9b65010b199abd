"""What the project is made of: known weaknesses and licences of the packages it needs."""
