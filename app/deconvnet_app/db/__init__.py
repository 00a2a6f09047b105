"""The database: tables, statements, and the differences between SQLite and PostgreSQL."""
