# Makes the help that PowerShell shows (en-US/VMatrix.Cmdlets.dll-Help.xml) and brings docs/en-US/*.md up to date.
# By hand in the Markdown: description, examples, notes. From the code: synopsis, syntax, parameters and what they mean
# (the XML comments of the cmdlets), inputs, outputs. Needs the staged module and Microsoft.PowerShell.PlatyPS.
$ErrorActionPreference = 'Stop'
$repo = (Resolve-Path "$PSScriptRoot/..").Path
if (-not (Get-Module -ListAvailable Microsoft.PowerShell.PlatyPS)) {
    throw 'Microsoft.PowerShell.PlatyPS is not installed: Install-PSResource Microsoft.PowerShell.PlatyPS'
}
Import-Module Microsoft.PowerShell.PlatyPS
# What is staged already would be read back as if it were the source; the build lays it out anew.
Remove-Item -Recurse -Force "$repo/out/VMatrix/en-US" -ErrorAction Ignore
Import-Module "$repo/out/VMatrix" -Force

# XML comments by member, as plain sentences.
$comments = @{}
foreach ($project in 'VMatrix.Cmdlets', 'VMatrix.Model') {
    $xml = [xml](Get-Content -Raw "$repo/src/$project/bin/Release/net10.0/$project.xml")
    foreach ($member in $xml.doc.members.member) {
        $summary = $member.SelectSingleNode('summary')
        if ($summary) {
            $text = $summary.InnerXml -replace '<c>(.*?)</c>', '`$1`' -replace '<see cref="[^"]*?([^.":(]+)(\([^"]*\))?"\s*/>', '`$1`' -replace '<[^>]+>' -replace '\s+', ' '
            $comments[$member.name] = [System.Net.WebUtility]::HtmlDecode($text.Trim())
        }
    }
}

function Get-Comment([type] $Type, [string] $Property) {
    for ($at = $Type; $at; $at = $at.BaseType) {
        $text = $comments["P:$($at.FullName).$Property"]
        if ($text) { return $text }
    }
}

$helps = foreach ($command in Get-Command -Module VMatrix | Sort-Object Name) {
    $file = "$repo/docs/en-US/$($command.Name).md"
    $help = New-CommandHelp $command
    # A date would change every file at every build.
    $help.Metadata.Remove('ms.date')
    $help.Aliases = 'None'
    $help.Synopsis = $comments["T:$($command.ImplementingType.FullName)"]
    $help.Description = 'TODO'
    $help.Notes = ''
    if (Test-Path $file) {
        $old = Import-MarkdownCommandHelp $file
        $help.Description = $old.Description
        $help.Notes = $old.Notes -replace '^\{\{.*'
        $help.Examples.Clear()
        $old.Examples | ForEach-Object { $help.Examples.Add($_) }
    }
    $help.RelatedLinks.Clear()
    foreach ($other in Get-Command -Module VMatrix -Noun $command.Noun | Where-Object Name -NE $command.Name) {
        $help.RelatedLinks.Add([Microsoft.PowerShell.PlatyPS.Model.Links]::new("$($other.Name).md", $other.Name))
    }
    $help.RelatedLinks.Add([Microsoft.PowerShell.PlatyPS.Model.Links]::new('about_VMatrix.md', 'about_VMatrix'))
    foreach ($parameter in $help.Parameters) {
        $parameter.Type = $parameter.Type -replace '^System\.Nullable`1\[(.*)\]$', '$1'
        $text = Get-Comment $command.ImplementingType $parameter.Name
        if ($text) { $parameter.Description = $text }
        elseif ($parameter.Description -match '{{') { throw "$($command.Name) -$($parameter.Name) has no XML comment." }
    }
    foreach ($put in $help.Inputs) { $put.Description = ($help.Parameters | Where-Object Type -EQ $put.Typename | Select-Object -First 1).Description }
    foreach ($put in $help.Outputs) {
        $put.Description = if ($comments["T:$($put.Typename)"]) { $comments["T:$($put.Typename)"] } else { 'True when the file is right.' }
    }
    $null = Export-MarkdownCommandHelp $help -OutputFolder "$repo/out/help" -Force
    Move-Item -Force "$repo/out/help/VMatrix/$($command.Name).md" $file
    if ((Get-Content -Raw $file) -match '{{|TODO') { Write-Warning "$file has holes to fill." }
    Import-MarkdownCommandHelp $file
}
$null = Export-MamlCommandHelp $helps -OutputFolder "$repo/out/help" -Force
# One file, with line ends as git keeps them.
$maml = (Get-Content -Raw "$repo/out/help/VMatrix/VMatrix.Cmdlets.dll-Help.xml") -replace "`r`n", "`n"
$null = New-Item -ItemType Directory -Force "$repo/en-US"
[IO.File]::WriteAllText("$repo/en-US/VMatrix.Cmdlets.dll-Help.xml", $maml)
