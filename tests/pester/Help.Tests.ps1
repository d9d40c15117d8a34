# The help that is staged, as a user asks for it.
BeforeDiscovery {
    $manifest = Import-PowerShellDataFile "$PSScriptRoot/../../out/VMatrix/VMatrix.psd1"
    $commands = $manifest.CmdletsToExport | ForEach-Object { @{ Name = $_ } }
}

BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
    $script:Common = [System.Management.Automation.PSCmdlet]::CommonParameters + [System.Management.Automation.PSCmdlet]::OptionalCommonParameters
}

Describe 'Help of <Name>' -ForEach $commands {
    BeforeAll {
        $script:Help = Get-Help $Name -Full
        $script:Command = Get-Command $Name -Module VMatrix
    }

    It 'has a synopsis and a description' {
        $Help.Synopsis | Should -Match '^[A-Z].{15,}\.$'
        ($Help.description.Text -join ' ').Length | Should -BeGreaterThan 60
    }

    It 'describes each parameter, and no other' {
        $described = $Help.parameters.parameter | Where-Object name -NotIn $Common
        $described.name | Sort-Object | Should -Be ($Command.Parameters.Keys | Where-Object { $_ -notin $Common } | Sort-Object)
        foreach ($parameter in $described) {
            ($parameter.description.Text -join ' ') | Should -Match '^[A-Z].{5,}' -Because $parameter.name
        }
    }

    It 'has examples whose commands and parameters exist' {
        $examples = @($Help.examples.example)
        $examples.Count | Should -BeGreaterThan 0
        foreach ($example in $examples) {
            "$($example.introduction.Text) $($example.code) $($example.remarks.Text)" | Should -Not -Match '```'
            $code = $example.code
            $code | Should -Not -BeNullOrEmpty -Because $example.title
            $problems = $null
            $tree = [System.Management.Automation.Language.Parser]::ParseInput($code, [ref] $null, [ref] $problems)
            $problems | Should -BeNullOrEmpty
            foreach ($call in $tree.FindAll({ $args[0] -is [System.Management.Automation.Language.CommandAst] }, $true)) {
                $known = Get-Command $call.GetCommandName() -ErrorAction Ignore # Commands of Windows modules are not here.
                if ($known.Source -ne 'VMatrix') { continue }
                foreach ($parameter in $call.CommandElements | Where-Object { $_ -is [System.Management.Automation.Language.CommandParameterAst] }) {
                    { $known.ResolveParameter($parameter.ParameterName) } | Should -Not -Throw -Because "$call"
                }
            }
        }
    }

    It 'promises no page online, and Get-Help -Online says so and opens nothing' {
        @($Help.relatedLinks.navigationLink.uri) -ne '' | Should -BeNullOrEmpty
        $Command.HelpUri | Should -BeNullOrEmpty
        { Get-Help $Name -Online -ErrorAction Stop } | Should -Throw '*online*cannot be displayed*'
    }

    It 'is what the Markdown says' {
        $page = Get-Content -Raw "$PSScriptRoot/../../docs/en-US/$Name.md"
        $page | Should -Not -Match '{{|TODO'
        $page | Should -Match ([regex]::Escape($Help.Synopsis))
        foreach ($parameter in $Command.Parameters.Keys | Where-Object { $_ -notin $Common }) {
            $page | Should -Match "(?m)^### -$parameter$"
        }
    }
}

Describe 'About topics' {
    It 'are plain text: no marks, no comments, no line longer than a terminal, no word broken' {
        foreach ($topic in Get-ChildItem "$Module/en-US/about_*.help.txt") {
            $text = Get-Content -Raw $topic
            $text | Should -Match "^TOPIC\n    $($topic.Name.Split('.')[0])\n" -Because $topic.Name
            $text | Should -Not -Match '<!--|```|(?m)^#|\*\*|\]\(' -Because $topic.Name
            # Of the lines only those of an example, or a word that is longer by itself, go on.
            $long = $text -split "`n" | Where-Object { $_.Length -gt 80 -and $_ -notmatch '^ {8}' -and ($_.Trim() -split ' ').Count -gt 2 }
            $long | Should -BeNullOrEmpty -Because $topic.Name
            $words = (Get-Content -Raw "$PSScriptRoot/../../docs/en-US/$($topic.Name.Split('.')[0]).md") -replace '(?s)<!--.*?-->' -split '[^A-Za-z]+' | Sort-Object -Unique
            $said = $text -split '[^A-Za-z]+' | Sort-Object -Unique
            @($words | Where-Object { $_ -notin $said -and $_.Length -gt 3 -and $_ -notmatch 'yaml|powershell|text' }) | Should -BeNullOrEmpty -Because "$($topic.Name) is made of the Markdown: ./build.sh docs"
        }
    }

    It 'are found by Get-Help' {
        Get-Help about_VMatrix | Should -Match 'stage'
        @(Get-ChildItem "$Module/en-US/about_*.help.txt").Count | Should -Be @(Get-ChildItem "$PSScriptRoot/../../docs/en-US/about_*.md").Count
    }
}
