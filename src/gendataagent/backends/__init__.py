"""The heavy libraries, each imported only in its backend and only when the backend is used."""
