"""From what a user asks for to what defines a search: options, their defaults and checks, and the search file."""
