"""For teams that run ``label-studio-ml start FOLDER``: this folder. It needs label-studio-ml and requests alone."""
