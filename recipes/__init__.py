"""The contract between the advisor, which thinks, and the trainers, which do."""
