"""The psql connector: how it is launched, what its command line may say, what it draws."""
