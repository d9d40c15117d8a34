# Imports the build of the cmdlets that fits this PowerShell; what they need they find themselves.
# Kept this short on purpose: to ask for the version first takes longer than the whole import.
try {
    if ($PSEdition -eq 'Core') { Import-Module "$PSScriptRoot/bin/net10.0/VMatrix.Cmdlets.dll" -ErrorAction Stop }
    else { Import-Module "$PSScriptRoot/bin/netstandard2.0/VMatrix.Cmdlets.dll" -ErrorAction Stop }
}
catch { throw "VMatrix needs PowerShell 7.6 or newer, or Windows PowerShell 5.1, and its files whole: $_" }
