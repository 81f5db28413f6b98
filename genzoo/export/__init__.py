"""Ways out of genzoo: graphs for other programs, and folders for the Hugging Face Hub."""
