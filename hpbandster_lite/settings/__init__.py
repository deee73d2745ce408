"""From what a user asks for to what defines a search: options, their defaults and checks, and the search file.

Law of this room: wrong input is refused here, before any process is started, with the value and the remedy.
"""
