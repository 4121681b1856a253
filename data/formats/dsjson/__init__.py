"""DSJSON, the log format of Vowpal Wabbit and of Azure Personalizer."""
