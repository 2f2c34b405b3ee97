"""Files: folders and archives walked, ignore rules, folders watched for changes."""
