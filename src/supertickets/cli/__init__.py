"""The command line: parse words, call the library, print."""
